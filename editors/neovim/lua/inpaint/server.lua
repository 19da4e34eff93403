--- The language server's process: one for all buffers, started again when it dies.
local config = require("inpaint.config")

---@class inpaint.Status what the server says in `inpaint/status`, see editors/README.md
---@field state "loading"|"idle"|"thinking"|"off"|"error"
---@field reason string? why nothing is shown in the buffer that has the focus
---@field message string? what is wrong, or that reason as a sentence
---@field model string
---@field models {name: string, there: boolean, takes: string}[] that can be fetched
---@field drafting string? whether the model denoises drafts; nil where it has no drafter
---@field learned string[]? the languages that the model knows, where these are few
---@field latencyMs number? of the last fill
---@field passes integer? of the last fill
---@field fromCache boolean?
---@field counts {shown: integer, accepted: integer, partlyAccepted: integer, dismissed: integer}
---@field index table what is known of the workspace's files
---@field nextEdit string? why there is no next edit; nil where that is off
---@field source string? the file and line that the last suggestion was copied from

local M = {
  error = nil, ---@type string? what keeps the server from working
  loading = false, -- whether it starts or loads its model
  status = nil, ---@type inpaint.Status? the last there was
  ready = function() end, -- called when the model has been loaded
}
--- The language of a file by its ending, which some take for the filetype.
local LANGUAGES = {
  py = "python", pyi = "python",
  js = "javascript", mjs = "javascript", cjs = "javascript", jsx = "javascriptreact",
  ts = "typescript", mts = "typescript", cts = "typescript", tsx = "typescriptreact",
  go = "go", golang = "go", rs = "rust",
}
local COMPOUND = { "javascript.jsx", "typescript.tsx", "python.django" }
local NAME, MARKERS = "inpaint", { ".git", "pyproject.toml", "setup.py" }
local REPOSITORY = vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h:h:h:h:h")
local PROGRAMS = vim.fn.has("win32") == 1 and REPOSITORY .. "/.venv/Scripts/" or REPOSITORY .. "/.venv/bin/"
local PLACES = { "inpaint-lsp", PROGRAMS .. "inpaint-lsp", "~/.local/bin/inpaint-lsp" } -- the last is uv's and pipx'
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

--- Tell the user something, in no more cells than end without a wait for Enter; `:Inpaint status` has the whole.
--- Later, for an error in an autocommand would come with a stack trace.
function M.say(message, level)
  vim.schedule(function()
    local text, more = "Inpaint: " .. message:gsub("%s+", " "), "… see `:Inpaint status`"
    if vim.api.nvim_strwidth(text) > vim.v.echospace then
      text = vim.fn.strcharpart(text, 0, vim.v.echospace - vim.api.nvim_strwidth(more)) .. more
    end
    vim.notify(text, level or vim.log.levels.INFO)
  end)
end

--- Note what keeps the server from working, and say it once as long as it stays the same.
local function fail(message)
  if M.error ~= message then
    M.say(message, vim.log.levels.WARN)
  end
  M.error, M.loading = message, false
  M.changed()
end

--- The command that starts the server: the user's, else the first that is there; nil where none is.
function M.command()
  if #config.options.cmd > 0 then
    return vim.fn.executable(config.options.cmd[1]) == 1 and config.options.cmd or nil
  end
  for _, program in ipairs(vim.tbl_map(vim.fn.expand, PLACES)) do
    if vim.fn.executable(program) == 1 then
      return { program, "--stdio" }
    end
  end
end

local function on_exit(code, signal)
  if vim.v.exiting ~= vim.NIL then
    return
  end
  local again = restarting or code ~= 0 or signal ~= 0
  crashes = crashes + ((again and not restarting) and 1 or 0)
  restarting, M.loading, M.status = false, again, nil
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

---@param status inpaint.Status
local function on_status(_, status)
  for name, value in pairs(status) do
    status[name] = value ~= vim.NIL and value or nil -- Neovim 0.12 makes vim.NIL of null
  end
  local loaded = M.loading and status.state ~= "loading"
  M.status, M.loading = status, status.state == "loading"
  M.error = status.state == "error" and status.message or nil
  M.changed()
  if loaded then
    M.ready()
  end
end

--- What is wrong with the model or an option.
---@param params lsp.ShowMessageParams
local function on_message(_, params)
  M.say(params.message:gsub("^Inpaint: ", ""), params.type == 3 and vim.log.levels.INFO or vim.log.levels.WARN)
end

--- The server offers a better model, once. A question would take the next keys, so it is said, and the answer a command.
local function on_offer()
  M.say("`:Inpaint get base` fetches a better model, once; `:Inpaint get` says what it takes")
  return vim.NIL
end

--- Start a server of which we hear with what it ended, and Neovim that it ended well: else it would say more at each
--- end than fits without a wait for Enter.
local function quietly(command)
  return function(dispatchers)
    local function ended(code, signal)
      vim.schedule_wrap(on_exit)(code, signal)
      dispatchers.on_exit(0, 0)
    end
    return vim.lsp.rpc.start(command, vim.tbl_extend("force", dispatchers, { on_exit = ended }))
  end
end

--- The client's configuration, as `vim.lsp.start` and `vim.lsp.config` take it.
function M.configuration()
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false }
  return {
    name = NAME,
    cmd = M.command() or { PLACES[1], "--stdio" },
    filetypes = M.filetypes(),
    get_language_id = function(buf, filetype)
      return M.language(filetype, vim.api.nvim_buf_get_name(buf))
    end,
    root_markers = MARKERS,
    init_options = vim.tbl_extend(
      "force",
      { nextEdit = config.options.next_edit },
      config.options.server,
      { status = true }
    ),
    capabilities = capabilities,
    handlers = { ["inpaint/status"] = on_status, ["window/showMessage"] = on_message, ["window/showMessageRequest"] = on_offer },
    on_exit = vim.schedule_wrap(on_exit),
    reuse_client = function(client)
      return client.name == NAME and not M.call(client, "is_stopped")
    end,
  }
end

--- Attach a buffer to the server, which is started where it does not run. Of those without a file only our own.
function M.start(buf)
  if vim.bo[buf].buftype ~= "" and not vim.b[buf].inpaint then
    return
  elseif not M.command() then
    return fail("no server found, see `:checkhealth inpaint`")
  end
  local configuration = M.configuration()
  if not M.client() then
    M.loading, M.error = true, nil
  end
  configuration.cmd, configuration.on_exit = quietly(configuration.cmd), nil
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

--- The protocol's name of a filetype: what its parts say, as of `python.django`, or, where it is none, the file's ending.
function M.language(filetype, file)
  local first, last = filetype:match("^[^.]*"), filetype:match("[^.]*$")
  if filetype == "" then
    return LANGUAGES[(file or ""):match("[^.]*$")] or ""
  end
  return LANGUAGES[last] or LANGUAGES[first] or first
end

--- All that the filetypes of ours are called.
function M.filetypes()
  local ours = vim.list_slice(config.options.filetypes)
  for _, name in ipairs(vim.list_extend(vim.tbl_keys(LANGUAGES), COMPOUND)) do
    if not vim.tbl_contains(ours, name) and vim.tbl_contains(config.options.filetypes, M.language(name)) then
      table.insert(ours, name)
    end
  end
  return ours
end

function M.is_ours(buf)
  local filetypes, filetype = config.options.filetypes, vim.bo[buf].filetype
  local language = M.language(filetype, vim.api.nvim_buf_get_name(buf))
  return vim.iter({ filetype, language, "*" }):any(function(name)
    return vim.tbl_contains(filetypes, name)
  end)
end

--- Whether the model knows a language.
function M.has_learned(filetype)
  local learned = M.status and M.status.learned
  return not learned or vim.tbl_contains(learned, M.language(filetype))
end

--- Do something as soon as a server has said what it is; it may be about to be started.
function M.when_known(action)
  if M.status then
    return action()
  end
  vim.api.nvim_create_autocmd("User", {
    pattern = "InpaintStatus",
    callback = function()
      if M.status then
        action()
      end
      return M.status ~= nil -- and that is the end of it
    end,
  })
end

--- Tell the server where the user looks: its status is about that buffer, and it reads ahead for that place.
function M.focus(buf)
  local client = M.client(buf)
  if client then
    local focus = { textDocument = { uri = vim.uri_from_bufnr(buf) } }
    if buf == vim.api.nvim_get_current_buf() then
      focus.position = vim.lsp.util.make_position_params(0, client.offset_encoding).position
    end
    M.call(client, "notify", "textDocument/didFocus", focus)
  end
end

--- What is known of the workspace's files.
local function index_summary(index)
  if index.state == "off" then
    return "turned off by the option workspace"
  elseif index.state == "none" then
    return "no folder"
  elseif index.state == "building" then
    return index.of > 0 and ("reading, %d of %d files"):format(index.read, index.of) or "reading"
  end
  local parts, reasons = { ("%d files known"):format(index.files) }, {}
  for reason, number in vim.spairs(index.leftOut) do
    table.insert(reasons, ("%d %s"):format(number, reason))
  end
  table.insert(parts, reasons[1] and "left out: " .. table.concat(reasons, ", "))
  table.insert(parts, index.packages[1] and "with " .. table.concat(index.packages, ", "))
  table.insert(parts, index.message ~= vim.NIL and index.message or nil)
  return table.concat(parts, "; ")
end

local function execute(command, arguments)
  local client = M.client()
  if not client then
    return M.say("no server runs: open a file that it completes in")
  end
  local params = { command = command, arguments = arguments }
  M.call(client, "request", "workspace/executeCommand", params, function() end)
end

--- Have the server forget the workspace's index and read all files again.
function M.rebuild_index()
  execute("inpaint.rebuildIndex")
end

--- Have the server fetch a better model, once; it says how far it is, and uses it then.
function M.get_model(name)
  execute("inpaint.getModel", { name })
end

--- What can be fetched and what it takes, a line each.
---@return string[]
function M.models()
  return vim.tbl_map(function(model)
    return ("%s: %s"):format(model.name, model.there and "it is there" or model.takes)
  end, M.status and M.status.models or {})
end

--- What else there is to say of the server, a line each.
---@return string[]
function M.details()
  local status, lines = M.status, {}
  if status then
    local answered = status.answered and status.answered ~= status.model and (" (%s)"):format(status.answered) or ""
    table.insert(lines, "model: " .. status.model .. answered)
    if status.latencyMs then
      local cost = status.fromCache and "remembered" or ("%d passes"):format(status.passes)
      table.insert(lines, ("last fill: %.0f ms, %s"):format(status.latencyMs, cost))
    end
    local c = status.counts
    local counts = "%d suggestions: %d accepted, %d in part, %d dismissed"
    table.insert(lines, counts:format(c.shown, c.accepted, c.partlyAccepted, c.dismissed))
    if status.source then
      table.insert(lines, "copied from: " .. vim.fn.fnamemodify(status.source, ":."))
    end
    table.insert(lines, status.drafting)
    table.insert(lines, status.nextEdit and "next edit: " .. status.nextEdit)
    table.insert(lines, status.index and "workspace: " .. index_summary(status.index))
  end
  return lines
end

function M.restart()
  crashes, restarting = 0, M.client() ~= nil
  if restarting then
    M.call(M.client(), "stop")
  else
    M.start_all()
  end
end

return M
