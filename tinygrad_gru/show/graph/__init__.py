"""The picture of a tape: collected from its records, folded over time, and drawn as text, SVG and Mermaid."""
