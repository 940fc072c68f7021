"""Go's text/template, as far as prompt templates use it: text in, text out, without Go.

`parser.parse` makes a `nodes.Template` of the text, `evaluate.execute` renders it. What is not understood
is a `TemplateError` that names it; nothing is rendered by guess. Pure.

Source: the documentation of Go's text/template and fmt (Go 1.24).
"""
