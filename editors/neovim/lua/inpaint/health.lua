--- :checkhealth inpaint
local config = require("inpaint.config")
local server = require("inpaint.server")

local M = {}
local PATIENCE = 30000 -- milliseconds: loading a model included
local INSTALL = {
  "in a clone of the repository: python3 -m venv .venv && .venv/bin/pip install -e .",
  "or from there: uv tool install .   or: pipx install .",
  'or name the program in setup(): cmd = { "/path/to/inpaint-lsp", "--stdio" }',
}

--- Returns whether there is a server.
local function check_command()
  local command = server.command()
  if command then
    vim.health.ok("server: " .. table.concat(command, " "))
  else
    local name = config.options.cmd[1] or "inpaint-lsp"
    vim.health.error(('The server was not found: there is no "%s".'):format(name), INSTALL)
  end
  return command ~= nil
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

--- Complete a line in a buffer made for it, with a server that is started for it if none runs.
local function check_completion()
  local buf = require("inpaint.scratch").buffer("health", { "def add(a, b):", "    return " })
  vim.wait(PATIENCE, function()
    return server.client(buf) and not server.loading or server.error ~= nil
  end)
  local client, started = server.client(buf), vim.uv.hrtime()
  local params = { textDocument = { uri = vim.uri_from_bufnr(buf) } }
  params.position, params.context = { line = 1, character = 11 }, { triggerKind = 1 }
  local answer = client and server.call(client, "request_sync", "textDocument/inlineCompletion", params, PATIENCE, buf)
  local milliseconds = (vim.uv.hrtime() - started) / 1e6
  local items = answer and answer.result and (answer.result.items or answer.result) or {}
  vim.api.nvim_buf_delete(buf, { force = true })
  if items[1] then
    vim.health.ok(("test completion: `return ` goes on with `%s`, after %.0f ms"):format(items[1].insertText, milliseconds))
  else
    vim.health.error("The test completion got nothing.", { server.error or ":Inpaint log", ":Inpaint restart" })
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
  check_keys()
  if check_command() then
    check_server()
    check_completion()
  end
end

return M
