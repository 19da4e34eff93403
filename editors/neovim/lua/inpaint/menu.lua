--- Completions as entries of a completion menu, for those who want them there: what inpaint.cmp and inpaint.blink share.
---
--- The server answers the newest request alone, so set `display = "key"` beside it: ghost text then asks by key only.
local server = require("inpaint.server")

local M = {}
local INVOKED = 1
local PLAIN_TEXT, TEXT = 1, 1 -- lsp.InsertTextFormat.PlainText, lsp.CompletionItemKind.Text

--- An entry that replaces the word before the cursor by itself and the rest: menus match entries with what was typed.
local function entry(item, word, range)
  local text = word .. item.insertText
  local first, more = text:match("^([^\n]*)(\n?)")
  return {
    label = vim.trim(first) .. (more == "" and "" or " …"),
    filterText = text,
    kind = TEXT,
    insertTextFormat = PLAIN_TEXT,
    documentation = { kind = "markdown", value = ("```%s\n%s\n```"):format(vim.bo.filetype, text) },
    textEdit = { newText = text, range = range },
    command = item.command,
  }
end

--- Give the entries for the cursor to `callback`, none where there are none. Returns what cancels that.
---@param units fun(text: string): integer how long a text is, as the menu counts
---@param callback fun(entries: lsp.CompletionItem[])
function M.entries(units, callback)
  local buf = vim.api.nvim_get_current_buf()
  local client = server.client(buf)
  if not client then
    callback({})
    return function() end
  end
  local id, range
  local function ask()
    local tick = vim.b[buf].changedtick
    local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
    params.context = { triggerKind = INVOKED }
    local row, col = unpack(vim.api.nvim_win_get_cursor(0))
    local head = vim.api.nvim_get_current_line():sub(1, col)
    local word, character = head:match("[%w_\128-\255]*$"), units(head)
    range = range or { -- menus count from where they asked
      start = { line = row - 1, character = character - units(word) },
      ["end"] = { line = row - 1, character = character },
    }
    local _, request = server.call(client, "request", "textDocument/inlineCompletion", params, function(_, result)
      local items = result and result.items or {}
      if #items == 0 and vim.api.nvim_get_current_buf() == buf and vim.b[buf].changedtick ~= tick then
        return ask() -- it was typed on, which ends a request, and nvim-cmp waits for the one that it made
      end
      callback(vim.tbl_map(function(item)
        return entry(item, word, range)
      end, items))
    end, buf)
    id = request
  end
  ask()
  return function()
    server.call(client, "cancel_request", id)
  end
end

--- Tell the server that an entry has been accepted.
function M.accepted(item)
  local client = server.client(0)
  if client and item.command then
    server.call(client, "request", "workspace/executeCommand", item.command, function() end)
  end
end

return M
