"""countersteer: closed-loop training for end-to-end driving policies.

The three axes of closed-loop training are packages: who drives (`drivers`), how the world answers
(`worlds`), and what the learning signal is (`objectives`, with `experts` for labels). A recipe
(`recipes`, `training`) is one value from each. Importing this package is silent and cheap.
"""

__version__ = "0.1.0"
