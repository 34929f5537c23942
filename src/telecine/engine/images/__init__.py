"""Images: one ordered list of typed operations for jobs, presets, signed URLs and the command.

In reading order: `transform` (START HERE: bytes and operations in, a finished picture out);
`values`, `operations`, `grammar`, `geometry` and `lettering` (pure: what can be asked and what it
comes to), `formats` and `sniff` (pure: what files are); `decoding` (FFmpeg, for what libvips cannot
read), `pool` (long-lived processes in the sandbox), `waiting` (pure: who is next of those who want
one) and `wire` (what is said to them). In those run
`child`, then `loading` with `colors`, `metadata` and `svg`, `picture`, `pixels`, `saving`, `facts`:
libvips is for these alone, and `metadata` and `svg` do without it.
"""
