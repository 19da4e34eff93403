--- A source for nvim-cmp: require("cmp").register_source("inpaint", require("inpaint.cmp")).
local menu = require("inpaint.menu")
local server = require("inpaint.server")

local M = {}

function M:is_available()
  return server.client(0) ~= nil
end

function M:get_position_encoding_kind()
  return "utf-16"
end

function M:get_trigger_characters()
  return { ".", "(", " ", "=", "," }
end

function M:complete(_, callback)
  menu.entries(vim.fn.strutf16len, function(entries)
    callback({ items = entries, isIncomplete = true })
  end)
end

function M:execute(item, callback)
  menu.accepted(item)
  callback(item)
end

return M
