--- When to ask the server, and what to do with its answer. There is one request at most; the newest wins.
local config = require("inpaint.config")
local ghost = require("inpaint.ghost")
local server = require("inpaint.server")

local M = {}
local INVOKED, AUTOMATIC = 1, 2
local seen ---@type table? the place of the last update
local pending ---@type {client: vim.lsp.Client, id: integer}?
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

local function show(item, here)
  if inserting() and vim.deep_equal(here, place()) then -- else it answers a question that is past
    ghost.show({
      buf = here.buf,
      row = here.row,
      col = here.col,
      text = item.insertText,
      rest = vim.api.nvim_get_current_line():sub(here.col + 1),
      command = item.command,
    })
  end
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
      local item = result and result.items[1]
      if item then
        show(item, here)
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

--- Put what `pattern` matches of the ghost text into the buffer, all without a pattern.
function M.accept(patterns)
  local text = ghost.text()
  for _, pattern in ipairs(text and patterns or {}) do
    local part = text:match(pattern)
    if part then
      local client, command = server.client(0), ghost.take(part)
      if client and command then
        server.call(client, "request", "workspace/executeCommand", command, function() end)
      end
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
  end
  return ghost.text() and "shown" or pending and "thinking" or server.client(buf) and "idle" or "off"
end

return M
