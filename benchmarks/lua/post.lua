-- POST of 1 MB. As wrk.init is left alone, the request is made once and not for each time it is sent.
wrk.method = "POST"
wrk.body = string.rep("x", 1000000)
