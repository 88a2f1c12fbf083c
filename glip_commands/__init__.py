"""The command line `glip`: the options of every command, and those that work without Detectron2.

`import glipv2_d2` registers with Detectron2, needs it, and takes seconds; help, completion, `glip
doctor` and what installs Detectron2 cannot wait for that. So the options are declared here, one
module a command, with click alone, and what a command does is the function of its name in
`glipv2_d2.cli` or `glipv2_d2.engine`, imported when it runs.
"""
