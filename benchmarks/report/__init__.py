"""`report`: all result files as one page, in HTML and Markdown, and the README's table.

`sections` builds the page from the blocks of `benchmarks.blocks`; `page.html` and `page.md` are its templates.
"""
