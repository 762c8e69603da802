# Python 3.8, standard library. wechat("wx1", "/cgi-bin/get_api_domain_ip") is a call that recovers from a rejected token.
import json, os, urllib.error, urllib.parse, urllib.request

def _ask(url, body=None, headers={}):
    data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:  # its body says why
        return json.load(error)

def tokenserver(path, body=None):
    answer = _ask(os.environ["TOKENSERVER"] + path, body, {"Authorization": "Bearer " + os.environ["TOKENSERVER_SECRET"]})
    if "access_token" not in answer:
        raise RuntimeError("token server: " + answer.get("errmsg", "no answer"))
    return answer["access_token"]

def wechat(appid, path, body=None, api="https://api.weixin.qq.com"):
    call = lambda token: _ask(f"{api}{path}?access_token={urllib.parse.quote(token)}", body)
    token = tokenserver("/token?appid=" + urllib.parse.quote(appid))  # ask each time: the server answers from memory
    answer = call(token)
    if answer.get("errcode", 0) in (40001, 40014, 42001):  # once more, with the current token
        answer = call(tokenserver("/token/reject", {"appid": appid, "access_token": token}))
    return answer
