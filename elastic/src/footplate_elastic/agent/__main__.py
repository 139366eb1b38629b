"""`python -m footplate_elastic.agent --entry MODULE:FUNCTION`: an agent for ranks of any program."""

from __future__ import annotations

from footplate_elastic.agent.process import main

if __name__ == "__main__":
    main()
