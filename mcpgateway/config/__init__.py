"""Configuration: text → nodes with positions → canonical keys → frozen values, with every problem told at once.

`loading` composes the rest: `formats` reads a text, `dialects` translates foreign shapes, `expansion` fills in
``${VAR}``, `structuring` makes the values of `model`, `checks` looks at them as a whole. `adapters` is where third
parties register server types, `lookup` says which file is read, `explain` shows a configuration without its secrets,
`pipe` is what the environment and an argument make of one for the bridge.
"""
