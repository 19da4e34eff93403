--- A source for blink.cmp: sources = { providers = { inpaint = { name = "Inpaint", module = "inpaint.blink", async = true } } }.
local menu = require("inpaint.menu")
local server = require("inpaint.server")

local M = {}

function M.new()
  return setmetatable({}, { __index = M })
end

function M:enabled()
  return server.client(0) ~= nil
end

function M:get_trigger_characters()
  return { ".", "(", " ", "=", "," }
end

function M:get_completions(_, callback)
  return menu.entries(string.len, function(entries)
    callback({ items = entries, is_incomplete_forward = true, is_incomplete_backward = true })
  end)
end

function M:execute(_, item, callback, default)
  default()
  menu.accepted(item)
  callback()
end

return M
