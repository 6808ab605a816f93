"""The demo shop under `/shop`: pages over the workspace's own products that show one customer moving through channels.

It only reads. Whatever is clicked becomes a Segment message that the browser sends to `/v1/…`; whatever is offered
is a decision of `/decide`.
"""
