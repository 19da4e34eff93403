--- When to ask the server, and what to do with its answer. There is one request at most; the newest wins.
local config = require("inpaint.config")
local ghost = require("inpaint.ghost")
local server = require("inpaint.server")

local M = {}
local INVOKED, AUTOMATIC = 1, 2
local seen ---@type table? the place of the last update
local pending ---@type {client: vim.lsp.Client, id: integer}?
local choice = {} ---@type inpaint.Suggestion[] what the last answer had
local chosen = 1 -- which of them is shown
local timer = assert(vim.uv.new_timer())
local off = {} -- by buffer number, filetype or "all"

--- Whether to complete in a buffer. The narrowest switch that was used counts.
function M.allowed(buf)
  for _, scope in ipairs({ buf, vim.bo[buf].filetype, "all" }) do
    if off[scope] ~= nil then
      return not off[scope]
    end
  end
  return true
end

---@param scope integer|string a buffer, a filetype or "all"
function M.switch(scope, on)
  off[scope] = not on
  M.stop()
  server.changed()
end

--- Where the cursor is in which state of which text.
local function place()
  local row, col = ghost.cursor()
  return { buf = vim.api.nvim_get_current_buf(), tick = vim.b.changedtick, row = row, col = col }
end

local function inserting()
  return vim.api.nvim_get_mode().mode:sub(1, 1) == "i"
end

function M.cancel()
  timer:stop()
  if pending then
    server.call(pending.client, "cancel_request", pending.id)
    pending = nil
  end
end

--- Forget the suggestion and the request.
function M.stop()
  M.cancel()
  ghost.clear()
  server.changed()
end

local function show(items, here)
  if not inserting() or not vim.deep_equal(here, place()) then
    return -- it answers a question that is past
  end
  local rest = vim.api.nvim_get_current_line():sub(here.col + 1)
  choice = vim.tbl_map(function(item)
    local text, command = item.insertText, item.command
    return { buf = here.buf, row = here.row, col = here.col, text = text, rest = rest, command = command }
  end, items)
  chosen = 1
  ghost.show(choice[chosen])
end

local function ask(kind)
  M.cancel()
  local here = place()
  seen = here -- events of what was typed before come after a key's mapping
  local client = server.client(here.buf)
  if not (client and M.allowed(here.buf) and inserting()) then
    return
  end
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  params.context = { triggerKind = kind }
  local request = { client = client }
  local sent, id = server.call(client, "request", "textDocument/inlineCompletion", params, function(_, result)
    if pending == request then
      pending = nil
      local items = result and (result.items or result) or {}
      if items[1] then
        show(items, here)
      end
      server.changed()
    end
  end, here.buf)
  if sent then
    request.id, pending = id, request
    server.changed()
  end
end

--- Ask now, however little it seems to be worth.
function M.trigger()
  ghost.clear()
  ask(INVOKED)
end

--- Show the next of several suggestions that hold, the one before for -1. Where there is one, ask for a longer one.
function M.cycle(step)
  if not ghost.text() or #choice < 2 then
    return ask(INVOKED)
  end
  for _ = 1, #choice do
    chosen = (chosen - 1 + step) % #choice + 1
    if ghost.show(choice[chosen]) then
      break
    end
  end
  server.changed()
end

--- After whatever may have changed text or cursor: keep what still holds, ask where the text is new.
function M.update()
  local now = place()
  if vim.deep_equal(now, seen) then
    return
  end
  local new_text = not seen or seen.buf ~= now.buf or seen.tick ~= now.tick
  seen = now
  if ghost.refresh() then
    return
  end
  M.cancel()
  if not new_text or ghost.makes_room() then
    return server.changed()
  elseif config.options.debounce_ms == 0 then
    ask(AUTOMATIC)
  else
    timer:start(config.options.debounce_ms, 0, function()
      vim.schedule(function()
        ask(AUTOMATIC)
      end)
    end)
  end
end

--- Look again at the same place: the server has become ready, or a menu has opened or closed.
function M.look_again()
  if inserting() then
    seen = nil
    M.update()
  end
end

function M.leave()
  seen = nil
  M.stop()
end

--- Tell the server what became of a suggestion.
local function tell(command, kind, characters)
  local client = server.client(0)
  if not client or not command then
    return
  elseif kind == "accepted" then
    server.call(client, "request", "workspace/executeCommand", command, function() end)
  else
    local id = (command.arguments or {})[1]
    server.call(client, "notify", "inpaint/feedback", { id = id, kind = kind, characters = characters })
  end
end

--- Forget the suggestion because the user does not want it.
function M.dismiss()
  if ghost.text() then
    tell(ghost.command(), "dismissed")
  end
  M.stop()
end

--- Put what the first of the patterns that fits matches of the ghost text into the buffer.
function M.accept(patterns)
  local text = ghost.text()
  for _, pattern in ipairs(text and patterns or {}) do
    local part = text:match(pattern)
    if part then
      local command = ghost.command()
      ghost.take(part)
      tell(command, part == text and "accepted" or "partlyAccepted", vim.fn.strutf16len(part))
      return server.changed()
    end
  end
end

--- One of "off", "error", "loading", "shown", "thinking" and "idle".
function M.status(buf)
  if not M.allowed(buf) or not (server.is_ours(buf) or server.client(buf)) then
    return "off"
  elseif server.error then
    return "error"
  elseif server.loading then
    return "loading"
  elseif server.status and server.status.state == "off" then
    return "off"
  end
  return ghost.text() and "shown" or pending and "thinking" or server.client(buf) and "idle" or "off"
end

return M
