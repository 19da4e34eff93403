--- :checkhealth inpaint
local config = require("inpaint.config")
local server = require("inpaint.server")

local M = {}

local function check_command()
  local cmd = config.options.cmd
  if vim.fn.executable(cmd[1]) == 0 then
    return vim.health.error(('"%s" was not found.'):format(cmd[1]), { "pip install inpaint-lsp", "or set `cmd` in setup()" })
  end
  vim.health.ok("server: " .. table.concat(cmd, " "))
end

local function check_server()
  local client = server.client()
  if server.error then
    vim.health.error(server.error, { ":Inpaint log", ":Inpaint restart" })
  elseif not client then
    vim.health.info("The server does not run: open a file of type " .. table.concat(config.options.filetypes, ", ") .. ".")
  else
    local buffers = #vim.lsp.get_buffers_by_client_id(client.id)
    vim.health.ok(("server runs for %d buffer(s)%s"):format(buffers, server.loading and ", loading its model" or ""))
    vim.tbl_map(vim.health.info, server.details())
  end
end

local function check_keys()
  for action, key in pairs(config.options.keys) do
    local mapping = key and vim.fn.maparg(key, "i", false, true) or {}
    if key and not vim.startswith(mapping.desc or "", "Inpaint") then
      vim.health.warn(("%s does not %s: another mapping has taken it"):format(key, action))
    end
  end
end

function M.check()
  vim.health.start("inpaint")
  if vim.fn.has("nvim-0.10") == 0 then
    return vim.health.error("Neovim is too old.", { "Install Neovim 0.10 or newer." })
  end
  if vim.fn.exists(":Inpaint") == 0 then
    return vim.health.error("Inpaint is not set up.", { 'Call require("inpaint").setup{} in init.lua.' })
  end
  check_command()
  check_server()
  check_keys()
end

return M
