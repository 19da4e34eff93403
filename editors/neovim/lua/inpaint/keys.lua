--- Keys that do ours while ghost text shows, and else what they did before.
local ghost = require("inpaint.ghost")

local M = {}

local function described(action)
  return "Inpaint: " .. action:gsub("_", " ")
end

--- Move a key's mapping to `plug`, the bare key where it has none.
local function keep(key, plug)
  local raw = vim.api.nvim_replace_termcodes(key, true, true, true)
  for _, mapping in ipairs(vim.api.nvim_get_keymap("i")) do
    if mapping.lhsraw == raw then
      mapping.lhs, mapping.lhsraw, mapping.lhsrawalt = plug, vim.api.nvim_replace_termcodes(plug, true, true, true), nil
      return vim.fn.mapset("i", false, mapping)
    end
  end
  vim.keymap.set("i", plug, key)
end

--- Map an action of require("inpaint") to `<Plug>(inpaint-action)`, and to the user's key where there is one.
local function map(action, key)
  local plug, otherwise = ("<Plug>(inpaint-%s)"):format(action), ("<Plug>(inpaint-otherwise-%s)"):format(action)
  vim.keymap.set("i", plug, ("<Cmd>lua require('inpaint').%s()<CR>"):format(action), { desc = described(action) })
  if not key or vim.fn.maparg(otherwise, "i") ~= "" then -- the latter: a second setup()
    return
  end
  keep(key, otherwise)
  vim.keymap.set("i", key, function()
    return (action == "trigger" or ghost.text()) and plug or otherwise
  end, { expr = true, remap = true, desc = described(action) })
end

function M.map(keys)
  for action, key in pairs(keys) do
    map(action, key)
  end
end

return M
