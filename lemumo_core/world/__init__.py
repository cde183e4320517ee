"""An endless procedural street: ``street`` lays it out, ``raycast`` sees it, the rest are sensors.

World frame: x along the street, y left, z up, metres; the ground is the plane z = 0.
"""
