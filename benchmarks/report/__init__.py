"""`report`: all result files as one page, in HTML and Markdown, and the README's table.

`sections` says what the page holds, in the blocks of `blocks`; `page.html` and `page.md` are its templates.
"""
