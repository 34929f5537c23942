"""Pure: what a user may ask for beside the outputs, a module a wish: its words, read and checked.

A command's option and a job's field are read by the same function here; `profile` holds the result.
"""
