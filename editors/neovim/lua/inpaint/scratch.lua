--- Buffers of our own without a file, in which completions come all the same.
local server = require("inpaint.server")

local M = {}

--- A new Python buffer of these lines, attached to the server.
function M.buffer(name, lines)
  local buf = vim.api.nvim_create_buf(false, true)
  vim.api.nvim_buf_set_name(buf, ("inpaint-%s-%d.py"):format(name, buf))
  vim.api.nvim_buf_set_lines(buf, 0, -1, true, lines)
  vim.b[buf].inpaint = true
  vim.bo[buf].filetype = "python"
  server.start(buf)
  return buf
end

return M
