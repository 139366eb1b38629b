"""Text, token shards, and the batches that every rank agrees upon.

`pack` turns text into token shards once; `shards` reads them; `order` chooses the samples of each step,
`packing` cuts a sample out of the token stream, `loader` distributes a step's samples to the data ranks.
Nothing here needs torch: batches are numpy arrays.
"""
