;;; inpaint.el --- Ghost text from the Inpaint language server, by Eglot  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: Apache-2.0
;; Package-Requires: ((emacs "28.1") (eglot "1.8"))

;;; Commentary:

;; Eglot has no inline completion of its own; this is a client of it in a hundred lines:
;;
;;   (load "~/src/inpaint/editors/emacs/inpaint.el")
;;   (add-to-list 'eglot-server-programs '(python-mode . ("inpaint-lsp" "--stdio")))
;;   (add-hook 'eglot-managed-mode-hook (lambda () (inpaint-mode (if (eglot-managed-p) 1 -1))))
;;
;; Eglot runs one server for a buffer, so this one takes the place of another for Python.

;;; Code:

(require 'eglot)

(defface inpaint-ghost '((t :inherit shadow)) "What Inpaint suggests." :group 'eglot)

(defvar-local inpaint--item nil "The suggestion on the screen.")
(defvar-local inpaint--start nil "Where it begins.")
(defvar-local inpaint--overlay nil "What shows the rest of it.")
(defvar-local inpaint--seen nil "Text and place after the last command.")

(defvar inpaint-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "TAB") #'inpaint-accept)
    (define-key map (kbd "<tab>") #'inpaint-accept)
    (define-key map (kbd "M-<right>") #'inpaint-accept-word)
    (define-key map (kbd "C-g") #'inpaint-dismiss)
    map)
  "Keys while a suggestion is on the screen.")

(add-to-list 'minor-mode-map-alist (cons 'inpaint--item inpaint-map))

(defun inpaint--hide ()
  (when inpaint--overlay (delete-overlay inpaint--overlay))
  (setq inpaint--item nil))

(defun inpaint--rest ()
  "What of the suggestion has not been typed; nil where something else has."
  (when (and inpaint--item (<= inpaint--start (point)))
    (let ((text (plist-get inpaint--item :insertText))
          (typed (buffer-substring-no-properties inpaint--start (point))))
      (and (string-prefix-p typed text) (< (length typed) (length text))
           (substring text (length typed))))))

(defun inpaint--draw ()
  "Show the rest of the suggestion at point, and whether there is any."
  (let ((rest (inpaint--rest)) (item inpaint--item))
    (inpaint--hide)
    (when rest
      (setq inpaint--item item
            inpaint--overlay (make-overlay (point) (point)))
      (add-face-text-property 0 (length rest) 'inpaint-ghost nil rest)
      (put-text-property 0 1 'cursor t rest)
      (overlay-put inpaint--overlay 'after-string rest))))

(defun inpaint--place ()
  (list (buffer-chars-modified-tick) (point)))

(defun inpaint--ask (kind)
  "Ask for a suggestion; KIND is 1 where the user did, else 2."
  (eglot--signal-textDocument/didChange)
  (let ((buffer (current-buffer)) (place (inpaint--place)))
    (jsonrpc-async-request
     (eglot--current-server-or-lose) :textDocument/inlineCompletion
     (append (eglot--TextDocumentPositionParams) `(:context (:triggerKind ,kind)))
     :error-fn #'ignore
     :timeout-fn #'ignore
     :success-fn (lambda (result)
                   (when (buffer-live-p buffer)
                     (with-current-buffer buffer (inpaint--take result place)))))))

(defun inpaint--take (result place)
  "Show the answer RESULT, unless text or point are no longer what they were at PLACE."
  (let ((items (plist-get result :items)))
    (when (and inpaint-mode (equal place (inpaint--place)) (> (length items) 0))
      (setq inpaint--item (aref items 0) inpaint--start (point))
      (inpaint--draw))))

(defun inpaint--after-command ()
  (let ((before inpaint--seen) (now (inpaint--place)))
    (unless (equal before now)
      (setq inpaint--seen now)
      (unless (inpaint--draw)
        (unless (eql (car before) (car now))
          (inpaint--ask 2))))))

(defun inpaint--insert (text)
  (let ((item inpaint--item) (all (equal text (inpaint--rest))))
    (insert (substring-no-properties text))
    (inpaint--draw)
    (setq inpaint--seen (inpaint--place))
    (if all
        (jsonrpc-async-request (eglot--current-server-or-lose) :workspace/executeCommand
                               (inpaint--command item) :success-fn #'ignore :error-fn #'ignore)
      (inpaint--tell item "partlyAccepted"))))

(defun inpaint--command (item)
  (let ((command (plist-get item :command)))
    (list :command (plist-get command :command) :arguments (plist-get command :arguments))))

(defun inpaint--tell (item kind)
  (jsonrpc-notify (eglot--current-server-or-lose) :inpaint/feedback
                  (list :id (aref (plist-get (plist-get item :command) :arguments) 0) :kind kind)))

(defun inpaint-accept ()
  "Insert the suggestion."
  (interactive)
  (inpaint--insert (inpaint--rest)))

(defun inpaint-accept-word ()
  "Insert the next word of the suggestion."
  (interactive)
  (let ((rest (inpaint--rest)))
    (string-match "\\`[[:space:]\n]*\\(?:[[:word:]_]+\\|[^[:word:][:space:]_]+\\|\\)" rest)
    (inpaint--insert (match-string 0 rest))))

(defun inpaint-dismiss ()
  "Hide the suggestion until the text is another."
  (interactive)
  (inpaint--tell inpaint--item "dismissed")
  (inpaint--hide))

(defun inpaint-trigger ()
  "Ask for a suggestion now, of several lines where that makes sense."
  (interactive)
  (inpaint--ask 1))

;;;###autoload
(define-minor-mode inpaint-mode
  "Show what Inpaint suggests as ghost text."
  :lighter " Inpaint"
  (inpaint--hide)
  (if inpaint-mode
      (add-hook 'post-command-hook #'inpaint--after-command nil t)
    (remove-hook 'post-command-hook #'inpaint--after-command t)))

(provide 'inpaint)
;;; inpaint.el ends here
