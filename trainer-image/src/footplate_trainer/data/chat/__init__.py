"""From the conversations of a data set to token ids, and which of them are learnt.

`fields` reads the shapes in which people keep conversations, `template` renders
one as text, `renderer` does so in a process that cannot run for ever, `encoding`
makes ids of the text, and `turns` says which of them a model learns to write.
"""
