--- The language server's process: one for all buffers, started again when it dies.
local config = require("inpaint.config")

local M = {
  error = nil, ---@type string? what keeps the server from working
  loading = false, -- whether it starts or loads its model
}
local NAME, MARKERS = "inpaint", { ".git", "pyproject.toml", "setup.py" }
local RESTARTS = 3 -- in a minute; then it is broken and stays down
local crashes, restarting = 0, false

--- Call a method of a client. Neovim 0.10 has functions there.
function M.call(client, method, ...)
  if vim.fn.has("nvim-0.11") == 1 then
    return client[method](client, ...)
  end
  return client[method](...)
end

--- The client that is attached to a buffer, or to any without one.
function M.client(buf)
  return vim.lsp.get_clients({ name = NAME, bufnr = buf })[1]
end

--- Tell status lines that the state may be another.
function M.changed()
  vim.api.nvim_exec_autocmds("User", { pattern = "InpaintStatus", modeline = false })
end

local function fail(message)
  M.error, M.loading = message, false
  vim.notify("Inpaint: " .. message, vim.log.levels.ERROR)
  M.changed()
end

local function on_exit(code, signal)
  if vim.v.exiting ~= vim.NIL then
    return
  end
  local again = restarting or code ~= 0 or signal ~= 0
  crashes = crashes + ((again and not restarting) and 1 or 0)
  restarting, M.loading = false, again
  if crashes > RESTARTS then
    return fail("the server keeps ending: see `:Inpaint log`, then `:Inpaint restart`.")
  elseif again then
    vim.defer_fn(M.start_all, 100)
    vim.defer_fn(function()
      crashes = math.max(crashes - 1, 0)
    end, 60000)
  end
  M.changed()
end

local function on_message(error, result, context)
  if result.type == vim.lsp.protocol.MessageType.Error then
    M.error = result.message
    M.changed()
  end
  return vim.lsp.handlers["window/showMessage"](error, result, context)
end

--- The client's configuration, as `vim.lsp.start` and `vim.lsp.config` take it.
function M.configuration()
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false }
  return {
    name = NAME,
    cmd = config.options.cmd,
    filetypes = config.options.filetypes,
    root_markers = MARKERS,
    init_options = config.options.server,
    capabilities = capabilities,
    handlers = { ["window/showMessage"] = on_message },
    on_init = function()
      M.loading, M.error = false, nil
    end,
    on_exit = vim.schedule_wrap(on_exit),
    reuse_client = function(client)
      return client.name == NAME and not M.call(client, "is_stopped")
    end,
  }
end

--- Attach a buffer to the server, which is started where it does not run.
function M.start(buf)
  if vim.bo[buf].buftype ~= "" then
    return
  end
  local configuration = M.configuration()
  if vim.fn.executable(configuration.cmd[1]) == 0 then
    return fail(('"%s" was not found: `pip install inpaint-lsp`, or set `cmd`.'):format(configuration.cmd[1]))
  end
  M.loading, M.error = M.client() == nil, nil
  configuration.root_dir = vim.fs.root(buf, MARKERS)
  vim.lsp.start(configuration, { bufnr = buf, reuse_client = configuration.reuse_client })
end

--- Attach every open buffer of our filetypes.
function M.start_all()
  for _, buf in ipairs(vim.api.nvim_list_bufs()) do
    if vim.api.nvim_buf_is_loaded(buf) and M.is_ours(buf) then
      M.start(buf)
    end
  end
end

function M.is_ours(buf)
  local filetypes = config.options.filetypes
  return vim.tbl_contains(filetypes, vim.bo[buf].filetype) or vim.tbl_contains(filetypes, "*")
end

function M.restart()
  crashes, restarting = 0, M.client() ~= nil
  if restarting then
    M.call(M.client(), "stop")
  else
    M.start_all()
  end
end

--- Follow the loading of the model; `ready` is called when it has ended.
function M.on_progress(event, ready)
  local client = vim.lsp.get_client_by_id(event.data.client_id)
  if client and client.name == NAME then
    M.loading = event.data.params.value.kind ~= "end"
    M.changed()
    if not M.loading then
      ready()
    end
  end
end

return M
