"""Where thinking meets remembering: the consumers, the scheduler.

This is the only package that imports both `agents` and `broker`.
"""
