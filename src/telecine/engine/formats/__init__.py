"""Pure: how files, coded pictures, playlists and texts are written down, read and written.

Nothing here knows a plan or a source: bytes and texts in, values out, and back.
"""
