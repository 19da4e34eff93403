--- :Inpaint tutor: the keys, tried in a buffer that nobody keeps.
local config = require("inpaint.config")

local M = {}

local LESSONS = [[
# Inpaint in a minute. This buffer is nobody's: write what you like, `:bwipeout` ends it.
#
# 1. Press `A` on the next line that is no comment and type a space: what the model would write appears in grey.
#    {accept} takes it all, {accept_word} a word, {accept_line} a line. `u` undoes that in one step.


class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        self.balance += amount
        return


# 2. Press `o` here and type `def withdraw(self, amount):` and Enter: below the head of a block come several lines.
#    Typing what is suggested keeps the rest in place, anything else asks anew.
#
# 3. {dismiss} hides it, until the text is another. {trigger} asks now, for several lines and with more time.
#    {next} and {previous} go through several suggestions where there are some.
#
# 4. `:Inpaint status` says what it is doing, and why it is silent; `:Inpaint snooze 10` gives you ten quiet minutes.
#
# Nothing of this leaves your machine.]]

--- The lesson with the user's own keys; a key that maps nothing is said to be none.
local function lines()
  local text = LESSONS:gsub("{([%w_]+)}", function(action)
    return config.options.keys[action] or ("<Plug>(inpaint-%s)"):format(action)
  end)
  return vim.split(text, "\n")
end

function M.open()
  local buf = require("inpaint.scratch").buffer("tutor", lines())
  vim.bo[buf].bufhidden = "wipe"
  vim.api.nvim_set_current_buf(buf)
  vim.fn.search([[^        return$]])
end

return M
