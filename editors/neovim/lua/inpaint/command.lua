--- :Inpaint enable|disable|toggle [buffer|FILETYPE], and snooze, status, stats, tutor, get, reindex, restart, log.
local config = require("inpaint.config")
local server = require("inpaint.server")
local suggest = require("inpaint.suggest")

local M = {}

local function scope_of(argument)
  return argument == "buffer" and vim.api.nvim_get_current_buf() or argument or "all"
end

--- Complete in buffers of a filetype too; it may be one that the model does not know.
local function add_filetype(filetype)
  local known = vim.tbl_contains(config.options.filetypes, filetype) or vim.tbl_contains(config.options.filetypes, "*")
  if not known and vim.tbl_contains(vim.fn.getcompletion(filetype, "filetype"), filetype) then
    config.options.filetypes = vim.list_extend({ filetype }, config.options.filetypes)
    server.start_all()
  end
  server.when_known(function()
    if not server.has_learned(filetype) then
      local learned = table.concat(server.status.learned, ", ")
      server.say(("expect little in %s: the model has learned %s only"):format(filetype, learned), vim.log.levels.WARN)
    end
  end)
end

--- Lines in a window that goes away with the next key, and never waits for one.
local function float(lines)
  vim.lsp.util.open_floating_preview(lines, "", { border = "rounded", focus_id = "inpaint" })
end

local actions = {
  enable = function(argument)
    if argument and argument ~= "buffer" then
      add_filetype(argument)
    end
    suggest.snooze(0)
    suggest.switch(scope_of(argument), true)
  end,
  disable = function(argument)
    suggest.switch(scope_of(argument), false)
  end,
  toggle = function(argument)
    suggest.switch(scope_of(argument), not suggest.allowed(vim.api.nvim_get_current_buf()))
  end,
  snooze = function(argument)
    suggest.snooze(tonumber(argument) or 5)
    server.say(suggest.explanation(vim.api.nvim_get_current_buf()) or "awake")
  end,
  status = function()
    local buf = vim.api.nvim_get_current_buf()
    local lines = { "Inpaint: " .. suggest.status(buf), suggest.explanation(buf) }
    float(vim.list_extend(lines, server.details()))
  end,
  stats = function(argument)
    local statistics = require("inpaint.statistics")
    return (argument == "reset" and statistics.reset or statistics.show)()
  end,
  tutor = function()
    require("inpaint.tutor").open()
  end,
  get = function(model)
    if model then
      return server.get_model(model)
    end
    float(server.models())
  end,
  reindex = server.rebuild_index,
  restart = server.restart,
  log = function()
    vim.cmd.tabedit(vim.fn.fnameescape(require("vim.lsp.log").get_filename()))
  end,
}

local function run(command)
  local action = actions[command.fargs[1] or "status"]
  if action then
    action(command.fargs[2])
  else
    vim.notify(":Inpaint takes " .. table.concat(vim.fn.sort(vim.tbl_keys(actions)), ", ") .. ".", vim.log.levels.ERROR)
  end
end

local function complete(lead, line)
  local first = line:match("^%s*%S+%s+%S*$") ~= nil
  local words = first and vim.tbl_keys(actions) or line:match("%sget%s") and { "base", "large" } or { "buffer", vim.bo.filetype }
  return vim.tbl_filter(function(word)
    return vim.startswith(word, lead)
  end, vim.fn.sort(words))
end

function M.define()
  vim.api.nvim_create_user_command("Inpaint", run, { nargs = "*", complete = complete, desc = "Inpaint's switches" })
end

return M
