"""What people run: `run` of each module is a command.

It takes the options of the module of its name in glip_commands/, and returns the exit status.
"""
