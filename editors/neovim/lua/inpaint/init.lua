--- Inpaint: ghost text at the cursor, from the Inpaint language server. Options and keys: :help inpaint.
---
--- One small client of our own for Neovim 0.10 and newer, in place of vim.lsp.inline_completion of 0.12: that one waits
--- 200 ms after each key, leaves a request running when typing goes on, shows late answers, and cannot accept a word.
local command = require("inpaint.command")
local config = require("inpaint.config")
local ghost = require("inpaint.ghost")
local keys = require("inpaint.keys")
local next_edit = require("inpaint.next_edit")
local server = require("inpaint.server")
local suggest = require("inpaint.suggest")

local M = {}
local COC_MS = 50 -- between looks at whether coc.nvim's menu is still open
local coc_timer = assert(vim.uv.new_timer())
local WORD = { "^%s*[%w_\128-\255]+", "^%s*[^%w%s_\128-\255]+", "^%s+" }

local function watch(events, pattern, callback)
  local group = vim.api.nvim_create_augroup("inpaint", { clear = false })
  vim.api.nvim_create_autocmd(events, { group = group, pattern = pattern, callback = callback })
end

--- Look again when coc.nvim's menu has opened and when it has closed, of which it does not tell.
local function follow_coc()
  if ghost.coc_menu_is_open() then
    suggest.look_again()
    coc_timer:start(
      COC_MS,
      COC_MS,
      vim.schedule_wrap(function()
        if coc_timer:is_active() and not ghost.coc_menu_is_open() then
          coc_timer:stop()
          suggest.look_again()
        end
      end)
    )
  end
end

--- Look again when the menu of a completion plugin or Neovim opens or closes: later, as it tells while it does so.
local function watch_menus()
  local look_again = vim.schedule_wrap(suggest.look_again)
  watch("CompleteDone", "*", look_again)
  watch("User", { "BlinkCmpMenuOpen", "BlinkCmpMenuClose" }, look_again)
  watch("User", "CocOpenFloat", vim.schedule_wrap(follow_coc)) -- any of its windows
  watch("InsertEnter", "*", function()
    local cmp = package.loaded["cmp"]
    if cmp and not M.watches_cmp then
      M.watches_cmp = true
      cmp.event:on("menu_opened", look_again)
      cmp.event:on("menu_closed", look_again)
    end
  end)
end

---@param options table? see config.lua
function M.setup(options)
  config.set(options)
  if not config.options.enabled then
    suggest.switch("all", false)
  end
  vim.api.nvim_set_hl(0, "InpaintGhost", { default = true, link = "Comment" })
  vim.api.nvim_set_hl(0, "InpaintCount", { default = true, link = "NonText" })
  vim.api.nvim_create_augroup("inpaint", { clear = true })
  watch("FileType", "*", function(event)
    if server.is_ours(event.buf) then
      server.start(event.buf)
    end
  end)
  watch({ "BufEnter", "LspAttach", "CursorHold" }, "*", function(event)
    server.focus(event.buf)
  end)
  server.ready = suggest.look_again
  watch("LspAttach", "*", suggest.look_again)
  watch("InsertEnter", "*", vim.schedule_wrap(suggest.look_again)) -- later, for `a` has not moved the cursor yet
  watch({ "CursorMovedI", "TextChangedI", "TextChangedP" }, "*", suggest.update)
  watch({ "InsertLeave", "BufLeave" }, "*", suggest.leave)
  watch_menus()
  keys.map(config.options.keys)
  if config.options.next_edit then
    next_edit.setup(config.options.next_edit_keys, watch)
  end
  command.define()
  server.start_all()
end

function M.accept()
  suggest.accept({ ".*" })
end

function M.accept_word()
  suggest.accept(WORD)
end

--- Up to the end of the line, or the whole next line where the ghost text begins at one.
function M.accept_line()
  suggest.accept({ "^\n?[^\n]*" })
end

--- The next suggestion of several; where there is one, a longer one is asked for.
function M.next()
  suggest.cycle(1)
end

function M.previous()
  suggest.cycle(-1)
end

--- Hide the ghost text until the text is another.
M.dismiss = suggest.dismiss

--- Go to the edit that is due, and make it once there; or have none like it in this session.
M.next_edit, M.reject_edit = next_edit.go, next_edit.reject

--- Ask for a suggestion now.
M.trigger = suggest.trigger

--- The ghost text on the screen, or nil.
M.text = ghost.text

--- The state for a status line: "off", "error", "loading", "snoozed", "excluded", "idle", "thinking" or "shown".
--- `User InpaintStatus` is fired when it may have changed.
function M.status()
  return suggest.status(vim.api.nvim_get_current_buf())
end

return M
