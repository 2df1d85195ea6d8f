"""The control plane: operators and auditors at the masters, over HTTP.

`app` joins the routes, `routes` is the table and the one way through it, `openapi` the document
made of it; the other modules have the routes of one noun each.
"""
