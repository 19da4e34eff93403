--- The one suggestion there is, and the ghost text that shows what is left of it.
---
--- A suggestion stays tied to the place that it was made for. What stands between there and the cursor has been typed or
--- accepted; as long as it is the suggestion's beginning, the ghost text is the rest. So typing through, a backspace, Enter
--- with automatic indentation and a partial accept are all one case, drawn before the screen is: nothing flickers.
local config = require("inpaint.config")

---@class inpaint.Suggestion
---@field buf integer
---@field row integer from 0, as column: bytes
---@field col integer
---@field text string
---@field rest string the rest of the line that the suggestion goes in front of
---@field asked boolean whether the user asked for it by key
---@field count string which of several it is; empty where it is the only one
---@field command lsp.Command? to send when it is accepted

local M = {}
local namespace = vim.api.nvim_create_namespace("inpaint")
local suggestion ---@type inpaint.Suggestion?
local left ---@type string? what of it is on the screen

--- Row and column of the cursor from 0, the latter in bytes.
function M.cursor()
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  return row - 1, col
end

function M.coc_menu_is_open()
  return vim.fn.exists("*coc#pum#visible") == 1 and vim.fn["coc#pum#visible"]() == 1
end

--- Whether a completion menu, Neovim's, nvim-cmp's, blink.cmp's or coc.nvim's, is open and the ghost text makes room.
function M.makes_room()
  local cmp, blink = package.loaded["cmp"], package.loaded["blink.cmp.completion.windows.menu"]
  return config.options.menu == "hide"
    and (vim.fn.pumvisible() == 1 or (cmp and cmp.visible()) or (blink and blink.win:is_open()) or M.coc_menu_is_open())
end

--- What of the suggestion has not been typed yet; nil where something else has.
local function remainder()
  local row, col = M.cursor()
  local s = suggestion
  if not s or s.buf ~= vim.api.nvim_get_current_buf() or row < s.row or (row == s.row and col < s.col) then
    return nil
  end
  local typed = table.concat(vim.api.nvim_buf_get_text(s.buf, s.row, s.col, row, col, {}), "\n")
  local same = vim.startswith(s.text, typed) and vim.api.nvim_get_current_line():sub(col + 1) == s.rest
  return same and #typed < #s.text and s.text:sub(#typed + 1) or nil
end

local function erase()
  left = nil
  if suggestion and vim.api.nvim_buf_is_valid(suggestion.buf) then
    vim.api.nvim_buf_clear_namespace(suggestion.buf, namespace, 0, -1)
  end
end

local function draw(text)
  local row, col = M.cursor()
  if config.options.display == "mark" and not suggestion.asked then
    local mark = { virt_text = { { "»", "InpaintCount" } }, virt_text_pos = "eol" }
    return vim.api.nvim_buf_set_extmark(0, namespace, row, col, mark)
  elseif suggestion.count ~= "" then
    local count = { virt_text = { { suggestion.count, "InpaintCount" } }, virt_text_pos = "eol" }
    vim.api.nvim_buf_set_extmark(0, namespace, row, col, count)
  end
  local tab = (" "):rep(vim.bo.tabstop)
  local lines = vim.tbl_map(function(line)
    return { { (line:gsub("\t", tab)), "InpaintGhost" } }
  end, vim.split(text, "\n"))
  vim.api.nvim_buf_set_extmark(0, namespace, row, col, {
    virt_text = table.remove(lines, 1),
    virt_text_pos = "inline", -- beside the rest of the line, not over it
    virt_lines = lines,
  })
  left = text
end

function M.clear()
  erase()
  suggestion = nil
end

--- Returns whether the suggestion holds at the cursor.
---@param new inpaint.Suggestion
function M.show(new)
  M.clear()
  suggestion = new
  return M.refresh()
end

--- Draw what is left at the cursor. Returns whether the suggestion still holds there.
function M.refresh()
  local text = remainder()
  erase()
  if not text then
    suggestion = nil
  elseif not M.makes_room() then
    draw(text)
  end
  return text ~= nil
end

--- The ghost text on the screen, if there is any.
function M.text()
  return left
end

--- Show what only a mark stands for. Returns whether there was such a suggestion.
function M.reveal()
  if left or not remainder() then
    return false
  end
  suggestion.asked = true
  M.refresh()
  return left ~= nil
end

--- The command of the suggestion.
function M.command()
  return suggestion and suggestion.command
end

--- Put a beginning of the ghost text into the buffer, as one step of undo that `.` repeats.
function M.take(part)
  vim.bo.undolevels = vim.bo.undolevels -- ends the step of what was typed before
  vim.api.nvim_paste(part, false, -1)
  M.refresh()
end

return M
