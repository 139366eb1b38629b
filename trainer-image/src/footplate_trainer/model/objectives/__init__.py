"""What the stages after pretraining minimise, as formulas on plain tensors.

Losses of sequences take sums or means of token log-probabilities, [sequences] or [pairs], and give one value
for each; elementwise ones take log-probabilities of tokens and give one value for each token. No function
divides by the size of what it is given: that is a micro-batch, whose size says nothing. The caller adds up,
and divides by the counts of the whole optimizer step.

A formula that papers or libraries know in several shapes is here once for each shape that can be chosen,
under the name that configuration and metrics have for it; its docstring says what TRL (1.16.0, and 1.10.0,
the last one with PPO), verl and OpenRLHF compute under the same name. Nothing is clamped unless it is said.
NaN stays NaN in a loss, so that the loop sees it; a reward that is no number counts nowhere (`advantages`).
"""
