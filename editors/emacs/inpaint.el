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

(defun inpaint-get-base ()
  "Have the server fetch a better model, once, and use it."
  (interactive)
  (when (y-or-n-p "Fetch 491 MB, keep 389 MB, for a model that takes 500 MB of memory? ")
    (jsonrpc-async-request (eglot--current-server-or-lose) :workspace/executeCommand
                           '(:command "inpaint.getModel" :arguments ["base"]) :success-fn #'ignore :error-fn #'ignore)))

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

;;; The next edit

(defface inpaint-old '((t :inherit shadow :strike-through t)) "What the next edit removes." :group 'eglot)
(defface inpaint-new '((t :inherit success)) "What the next edit puts in." :group 'eglot)

(defvar-local inpaint--edits nil "The edit that is due, or all where there are many places.")
(defvar-local inpaint--edit-overlays nil "What shows it.")
(defvar-local inpaint--previewed nil "Whether it shows at its place.")
(defvar-local inpaint--edit-tick nil "The text that it is about.")
(defvar-local inpaint--edit-timer nil "Waits for a pause.")

(defun inpaint--edit-clear ()
  (when inpaint--edit-timer (cancel-timer inpaint--edit-timer))
  (mapc #'delete-overlay inpaint--edit-overlays)
  (setq inpaint--edits nil inpaint--edit-overlays nil inpaint--previewed nil))

(defun inpaint--edit-overlay (beg end &rest properties)
  (let ((overlay (make-overlay beg end)))
    (while properties (overlay-put overlay (pop properties) (pop properties)))
    (push overlay inpaint--edit-overlays)))

(defun inpaint--edit-after-command ()
  (unless (eql inpaint--edit-tick (buffer-chars-modified-tick))
    (setq inpaint--edit-tick (buffer-chars-modified-tick))
    (inpaint--edit-clear)
    (unless (memq this-command '(undo undo-only undo-redo))
      (setq inpaint--edit-timer (run-with-timer 0.4 nil #'inpaint--edit-ask (current-buffer))))))

(defun inpaint--edit-ask (buffer)
  "Ask what is due in BUFFER."
  (when (and (buffer-live-p buffer) (not (buffer-local-value 'buffer-read-only buffer)))
    (with-current-buffer buffer
      (eglot--signal-textDocument/didChange)
      (let ((tick inpaint--edit-tick))
        (jsonrpc-async-request
         (eglot--current-server-or-lose) :inpaint/nextEdit (eglot--TextDocumentPositionParams)
         :error-fn #'ignore
         :timeout-fn #'ignore
         :success-fn (lambda (answer)
                       (when (buffer-live-p buffer)
                         (with-current-buffer buffer (inpaint--edit-take answer tick)))))))))

(defun inpaint--edit-take (answer tick)
  "Hint at what ANSWER has, unless the text is no longer that of TICK."
  (let ((edits (append (plist-get answer :edits) nil)))
    (when (and edits inpaint-next-edit-mode (eql tick (buffer-chars-modified-tick)))
      (inpaint--edit-clear)
      (setq inpaint--edits (cons (car edits) (cdr (append (plist-get answer :all) nil))))
      (let* ((beg (car (eglot--range-region (plist-get (car edits) :range))))
             (text (format "  %s: line %d, %s" (substitute-command-keys "\\[inpaint-next-edit]")
                           (line-number-at-pos beg t) (plist-get (car edits) :label))))
        (dolist (place (list beg (point)))
          (let ((end (save-excursion (goto-char place) (line-end-position))))
            (inpaint--edit-overlay end end 'after-string (propertize text 'face 'inpaint-ghost))))))))

(defun inpaint--edit-preview ()
  (let ((edits inpaint--edits))
    (inpaint--edit-clear)
    (setq inpaint--edits edits inpaint--previewed t)
    (dolist (edit edits)
      (let ((region (eglot--range-region (plist-get edit :range))))
        (inpaint--edit-overlay (car region) (cdr region) 'face 'inpaint-old)
        (inpaint--edit-overlay (cdr region) (cdr region) 'after-string
                               (propertize (plist-get edit :text) 'face 'inpaint-new))))
    (push-mark nil t)
    (goto-char (car (eglot--range-region (plist-get (car edits) :range))))
    (jsonrpc-notify (eglot--current-server-or-lose) :textDocument/didShowInlineEdit
                    (list :item (list :command (inpaint--command (car edits)))))))

(defun inpaint--edit-apply ()
  (let ((edits inpaint--edits))
    (inpaint--edit-clear)
    (save-excursion
      (dolist (each (nreverse (sort (mapcar (lambda (edit) (cons (eglot--range-region (plist-get edit :range)) edit)) edits)
                                    (lambda (one other) (< (caar one) (caar other))))))
        (goto-char (caar each))
        (delete-region (caar each) (cdar each))
        (insert (plist-get (cdr each) :text))))
    (jsonrpc-async-request (eglot--current-server-or-lose) :workspace/executeCommand
                           (inpaint--command (car edits)) :success-fn #'ignore :error-fn #'ignore)))

(defun inpaint-next-edit ()
  "Go to the edit that is due and preview it; there, make it."
  (interactive)
  (cond ((not inpaint--edits) (message "No edit is due"))
        ((and inpaint--previewed
              (= (line-number-at-pos)
                 (line-number-at-pos (car (eglot--range-region (plist-get (car inpaint--edits) :range))))))
         (inpaint--edit-apply))
        (t (inpaint--edit-preview))))

(defun inpaint-reject-next-edit ()
  "Have neither this edit nor another like it in this session."
  (interactive)
  (when inpaint--edits
    (jsonrpc-notify (eglot--current-server-or-lose) :inpaint/didRejectNextEdit
                    (list :id (plist-get (car inpaint--edits) :id) :reason "rejected")))
  (inpaint--edit-clear))

(defvar inpaint-next-edit-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "C-c .") #'inpaint-next-edit)
    (define-key map (kbd "C-c ,") #'inpaint-reject-next-edit)
    map)
  "Keys for the next edit.")

;;;###autoload
(define-minor-mode inpaint-next-edit-mode
  "Offer a change that was made twice at the next place that is alike."
  :keymap inpaint-next-edit-mode-map
  (inpaint--edit-clear)
  (setq inpaint--edit-tick (buffer-chars-modified-tick))
  (if inpaint-next-edit-mode
      (add-hook 'post-command-hook #'inpaint--edit-after-command nil t)
    (remove-hook 'post-command-hook #'inpaint--edit-after-command t))
  (when inpaint-next-edit-mode
    (jsonrpc-notify (eglot--current-server-or-lose) :workspace/didChangeConfiguration
                    '(:settings (:nextEdit t)))))

(provide 'inpaint)
;;; inpaint.el ends here
