--- :Inpaint enable|disable|toggle [buffer|FILETYPE], and status, restart, log.
local server = require("inpaint.server")
local suggest = require("inpaint.suggest")

local M = {}

local function scope_of(argument)
  return argument == "buffer" and vim.api.nvim_get_current_buf() or argument or "all"
end

local actions = {
  enable = function(argument)
    suggest.switch(scope_of(argument), true)
  end,
  disable = function(argument)
    suggest.switch(scope_of(argument), false)
  end,
  toggle = function(argument)
    suggest.switch(scope_of(argument), not suggest.allowed(vim.api.nvim_get_current_buf()))
  end,
  status = function()
    print("Inpaint: " .. suggest.status(vim.api.nvim_get_current_buf()))
    vim.tbl_map(print, server.details())
  end,
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
  local words = first and vim.tbl_keys(actions) or { "buffer", vim.bo.filetype }
  return vim.tbl_filter(function(word)
    return vim.startswith(word, lead)
  end, vim.fn.sort(words))
end

function M.define()
  vim.api.nvim_create_user_command("Inpaint", run, { nargs = "*", complete = complete, desc = "Inpaint's switches" })
end

return M
