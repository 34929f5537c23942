"""Images: one ordered list of typed operations for jobs, presets, signed URLs and the command.

In reading order: `transform` (START HERE: bytes and operations in, a finished picture out),
`operations`, `grammar` and `geometry` (pure: what can be asked and what it comes to), `formats` and
`sniff` (pure: what files are), `pool` (long-lived processes in the sandbox), and what runs in them:
`child`, `loading`, `pixels`, `saving`, `facts`. Only those four import libvips.
"""
