"""How good the CPU engines are, against known truth: one part an engine, all on the same clips.

`drives` renders the clips, each part scores one engine on them and on real pictures, `__main__` is the command line.
How fast they are is `pipeline_cpu`'s topic.
"""
