"""Uploads: one session, four doors, and what finishing one makes.

A session is a row and an incoming file of the store (`sessions`, `incoming`). The doors differ in
how bytes come to the file: in order with an offset (`tails`, tus), in parts by signed URLs
(`parts`), in one form with a signed policy or of a logged-in user (`forms`). What happens then is
the same: `completion`. What clients say is read in `words`.

Nothing here is async: a door's route feeds pieces to `Incoming` from a thread. There is no total
quota, so nothing is reserved: the limit is one file's.
"""
