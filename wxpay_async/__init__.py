"""Take WeChat mini-program payments through an aggregating acquirer, asynchronously and safely."""
