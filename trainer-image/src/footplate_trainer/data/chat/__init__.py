"""Conversations of a data set as token ids, and masks of the learnt ones.

`fields` reads the shapes in which data sets store conversations, `template` renders a conversation as text,
`renderer` does so in a process with limits, `encoding` turns the text into ids, and `turns` selects the ids
that a model learns to write.
"""
