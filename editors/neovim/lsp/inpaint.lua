--- For those who start servers by `vim.lsp.enable("inpaint")`; setup() does not need it.
return require("inpaint.server").configuration()
