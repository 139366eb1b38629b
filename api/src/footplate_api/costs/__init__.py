"""What runs cost: dollars, energy and carbon, reckoned anew from what was used whenever somebody asks."""
