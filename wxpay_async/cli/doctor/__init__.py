"""Check what a merchant has set up, part by part, and say what to do.

`findings` holds what is found, `settings` and `key_files` read what is there, `network`, `shared`
and `calling` try it out, `extras` looks at what is installed, `examination` puts them in order.
"""
