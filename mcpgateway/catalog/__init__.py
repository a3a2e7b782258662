"""What a namespace shows, as pure functions over what its servers list.

`rules` holds what a configuration says, `patterns` filters, `naming` finds names, `items` reads and splices what is
listed, `table` puts them together. `direct` and `templates` route what no table knows.
"""
