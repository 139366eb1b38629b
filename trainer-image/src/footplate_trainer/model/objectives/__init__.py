"""Formulas of the losses and advantages of the stages after pretraining, on plain tensors.

Losses of sequences take sums or means of token log-probabilities, [sequences] or [pairs], and return one
value for each; elementwise ones take log-probabilities of tokens and return one value for each token. No
function divides by the size of its input: that is a micro-batch, whose size is arbitrary. The caller adds up,
and divides by the counts of the whole optimizer step.

A formula that papers or libraries define in several forms is here once for each form that can be configured,
under the name that configuration and metrics have for it; its docstring states what TRL (1.16.0, and 1.10.0,
the last one with PPO), verl and OpenRLHF compute under the same name. Nothing is clamped unless the docstring
mentions it. NaN stays NaN in a loss, so that the loop detects it; a reward that is not a number counts
nowhere (`advantages`).
"""
