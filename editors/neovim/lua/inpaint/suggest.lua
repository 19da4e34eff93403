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
local snoozed_until = 0 -- seconds of os.time()

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

--- Show nothing unasked for so many minutes; 0 ends that.
function M.snooze(minutes)
  snoozed_until = os.time() + 60 * minutes
  M.stop()
  vim.defer_fn(server.changed, 60000 * minutes)
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

---@param kind integer by which the items were asked for
---@param step integer 1 or -1 where another than the one shown is wanted, 0 where the first is
local function show(items, here, kind, step)
  if not inserting() or not vim.deep_equal(here, place()) then
    return -- it answers a question that is past
  end
  local rest, before = vim.api.nvim_get_current_line():sub(here.col + 1), choice[chosen]
  choice = {}
  for number, item in ipairs(items) do
    local count = #items > 1 and ("%d/%d"):format(number, #items) or ""
    choice[number] = { text = item.insertText, command = item.command, rest = rest, count = count }
    choice[number].buf, choice[number].row, choice[number].col = here.buf, here.row, here.col
    choice[number].asked = kind == INVOKED
  end
  local same = before and before.text == choice[1].text
  chosen = same and step % #choice + 1 or 1
  ghost.show(choice[chosen])
end

local function ask(kind, step)
  M.cancel()
  local here = place()
  seen = here -- events of what was typed before come after a key's mapping
  local client = server.client(here.buf)
  if not (client and M.allowed(here.buf) and inserting()) then
    return
  elseif kind == AUTOMATIC and (config.options.display == "key" or os.time() < snoozed_until) then
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
        show(items, here, kind, step or 0)
      end
      server.changed()
    end
  end, here.buf)
  if sent then
    request.id, pending = id, request
    server.changed()
  end
end

--- Ask now, however little it seems to be worth; or show what is hidden behind a mark.
function M.trigger()
  if not ghost.reveal() then
    ghost.clear()
    ask(INVOKED)
  end
  server.changed()
end

--- Show the next of several suggestions that hold, the one before for -1. Where there is one, ask for more of them.
function M.cycle(step)
  if not ghost.text() or #choice < 2 then
    return ask(INVOKED, step)
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

--- One of "off", "error", "loading", "shown", "thinking", "snoozed", "excluded" and "idle".
function M.status(buf)
  local said = server.status or {}
  if not M.allowed(buf) or not (server.is_ours(buf) or server.client(buf)) then
    return "off"
  elseif server.error then
    return "error"
  elseif server.loading then
    return "loading"
  elseif said.state == "off" or said.reason == "language" or not server.client(buf) then
    return "off"
  elseif ghost.text() or pending then
    return ghost.text() and "shown" or "thinking"
  elseif os.time() < snoozed_until then
    return "snoozed"
  end
  return said.reason == "excluded" and "excluded" or "idle"
end

--- Why there is no ghost text, a sentence; nil where there is nothing to say.
function M.explanation(buf)
  local filetype, state = vim.bo[buf].filetype, M.status(buf)
  if not M.allowed(buf) then
    return "It was turned off here by `:Inpaint disable`."
  elseif not (server.is_ours(buf) or server.client(buf)) then
    local kind = filetype == "" and "A buffer without filetype" or ('The filetype "%s"'):format(filetype)
    return kind .. " is none of those it completes in: " .. table.concat(config.options.filetypes, ", ") .. "."
  elseif state == "error" then
    return server.error
  elseif state == "loading" then
    return "The model is being loaded."
  elseif state == "snoozed" then
    return "It is snoozed until " .. os.date("%H:%M", snoozed_until) .. "; keys still ask."
  elseif state == "idle" and config.options.display == "key" then
    return "It shows nothing until asked by key."
  elseif not server.has_learned(filetype) then
    return ("The model has learned %s only: expect little of it here."):format(table.concat(server.status.learned, ", "))
  end
  return server.status and server.status.message
end

return M
