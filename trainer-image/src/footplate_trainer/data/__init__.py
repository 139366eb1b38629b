"""From text to the batches that every rank agrees upon.

`pack` turns text into token shards once; `shards` reads them; `order` says
which samples a step trains on, `packing` cuts a sample out of the token
stream, `loader` deals a step's samples to the data ranks. Nothing here needs
torch: batches are numpy arrays.
"""
