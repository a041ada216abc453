"""The command line: how people see and steer runs. No rules live here.

Each verb is a module that is imported when it is called; rich is imported only to draw.
"""
