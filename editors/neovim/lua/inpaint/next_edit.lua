--- The next edit: a sign where it is due, and a key in normal mode that goes there and previews it, and then makes it.
local server = require("inpaint.server")

local M = {}
local namespace = vim.api.nvim_create_namespace("inpaint_next_edit")
local offer ---@type {buf: integer, tick: integer, edits: table[], edit: table, client: vim.lsp.Client, previewed: boolean}?
local pending ---@type {client: vim.lsp.Client, id: integer}?
local key ---@type string? that the hint names

local function clear()
  if offer and vim.api.nvim_buf_is_valid(offer.buf) then
    vim.api.nvim_buf_clear_namespace(offer.buf, namespace, 0, -1)
  end
  offer = nil
end

local function cancel()
  if pending then
    server.call(pending.client, "cancel_request", pending.id)
    pending = nil
  end
end

--- The offer, if it still is about the text of the buffer that is edited.
local function current()
  if offer and (offer.buf ~= vim.api.nvim_get_current_buf() or offer.tick ~= vim.b.changedtick) then
    clear()
  end
  return offer
end

local function mark(row, col, options)
  vim.api.nvim_buf_set_extmark(offer.buf, namespace, row, col, options)
end

local function hint()
  local row = offer.edit.range.start.line
  mark(row, 0, { sign_text = "»", sign_hl_group = "InpaintCount" })
  local text = (" %s: line %d, %s"):format(key or "next edit", row + 1, offer.edit.label)
  mark(vim.api.nvim_win_get_cursor(0)[1] - 1, 0, { virt_text = { { text, "InpaintCount" } } })
end

--- The column in bytes of a position of the protocol.
local function column(position)
  local line = vim.api.nvim_buf_get_lines(offer.buf, position.line, position.line + 1, false)[1] or ""
  local encoding = offer.client.offset_encoding
  if encoding == "utf-8" then
    return math.min(position.character, #line)
  elseif vim.fn.has("nvim-0.11") == 1 then
    return vim.str_byteindex(line, encoding, position.character, false)
  end
  return vim.str_byteindex(line, position.character, encoding == "utf-16")
end

--- Go to the edit, and show what goes, struck out, and what comes.
local function preview()
  vim.api.nvim_buf_clear_namespace(offer.buf, namespace, 0, -1)
  for _, edit in ipairs(offer.edits) do
    local row, first, last = edit.range.start.line, column(edit.range.start), column(edit.range["end"])
    mark(row, first, { end_col = last, hl_group = "InpaintOld" })
    mark(row, last, { virt_text = { { edit.text, "InpaintNew" } }, virt_text_pos = "inline" })
  end
  local start = offer.edit.range.start
  vim.cmd("normal! m'")
  vim.api.nvim_win_set_cursor(0, { start.line + 1, column(start) })
  offer.previewed = true
  server.call(offer.client, "notify", "textDocument/didShowInlineEdit", { item = { command = offer.edit.command } })
end

--- Make the edit, all of them where there are many: one step of undo.
local function apply()
  local made = offer
  clear()
  local changes = vim.tbl_map(function(edit)
    return { range = edit.range, newText = edit.text }
  end, made.edits)
  vim.lsp.util.apply_text_edits(changes, made.buf, made.client.offset_encoding)
  server.call(made.client, "request", "workspace/executeCommand", made.edit.command, function() end)
end

local function take(result, client, buf, tick)
  local edit = result and result.edits and result.edits[1]
  if edit and vim.api.nvim_get_mode().mode == "n" and buf == vim.api.nvim_get_current_buf() and tick == vim.b.changedtick then
    offer = { buf = buf, tick = tick, edits = result.all or { edit }, edit = edit, client = client, previewed = false }
    hint()
  end
end

--- Ask what is due now that the text is another. In insert mode all is silent.
function M.ask()
  cancel()
  clear()
  local buf, tick = vim.api.nvim_get_current_buf(), vim.b.changedtick
  local client = server.client(buf)
  if not client or not vim.bo.modifiable or vim.bo.readonly or vim.api.nvim_get_mode().mode ~= "n" then
    return
  end
  local params, request = vim.lsp.util.make_position_params(0, client.offset_encoding), { client = client }
  params.textDocument.version = vim.lsp.util.buf_versions[buf]
  local sent, id = server.call(client, "request", "inpaint/nextEdit", params, function(_, result)
    if pending == request then
      pending = nil
      take(result, client, buf, tick)
    end
  end, buf)
  if sent then
    request.id, pending = id, request
  end
end

function M.stop()
  cancel()
  clear()
end

--- Go to the edit that is due and preview it; once there, make it. Else do what the key did before.
function M.go()
  if not current() then
    return key and vim.api.nvim_feedkeys(vim.api.nvim_replace_termcodes(key, true, true, true), "n", false)
  end
  local here = vim.api.nvim_win_get_cursor(0)[1] == offer.edit.range.start.line + 1
  if offer.previewed and here then
    apply()
  else
    preview()
  end
end

--- Do not offer this again, nor another like it.
function M.reject()
  if current() then
    local report = { id = offer.edit.id, reason = "rejected" }
    server.call(offer.client, "notify", "inpaint/didRejectNextEdit", report)
    clear()
  end
end

---@param keys {go: string|false, reject: string|false} in normal mode
function M.setup(keys, watch)
  vim.api.nvim_set_hl(0, "InpaintOld", { default = true, strikethrough = true, fg = "NvimLightRed" })
  vim.api.nvim_set_hl(0, "InpaintNew", { default = true, link = "Added" })
  for name, used in pairs(keys) do
    if used then
      vim.keymap.set("n", used, M[name], { desc = ("Inpaint: %s the next edit"):format(name == "go" and "make" or name) })
    end
  end
  key = keys.go or nil
  watch({ "TextChanged", "InsertLeave" }, "*", M.ask)
  watch({ "InsertEnter", "BufLeave" }, "*", M.stop)
end

return M
