"""What acts: a module a kind of step, from a plan to finished files. `encode` is the door.

All of them run a step as `work.Work`: its children, what it cost, what it has to tell.
"""
