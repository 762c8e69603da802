// Node.js 18 or newer, no package. wechat('wx1', '/cgi-bin/get_api_domain_ip') is a call that recovers from a rejected token.
async function ask(url, body, headers = {}) {
  const request = { headers: { 'Content-Type': 'application/json', ...headers }, signal: AbortSignal.timeout(15000) }
  if (body !== undefined) Object.assign(request, { method: 'POST', body: JSON.stringify(body) })
  return (await fetch(url, request)).json()
}

export async function tokenserver(path, body) {
  const secret = { Authorization: `Bearer ${process.env.TOKENSERVER_SECRET}` }
  const answer = await ask(process.env.TOKENSERVER + path, body, secret)
  if (!answer.access_token) throw new Error(`token server: ${answer.errmsg}`)
  return answer.access_token
}

export async function wechat(appid, path, body, api = 'https://api.weixin.qq.com') {
  const call = token => ask(`${api}${path}?access_token=${encodeURIComponent(token)}`, body)
  const token = await tokenserver(`/token?appid=${encodeURIComponent(appid)}`) // ask each time: the server answers from memory
  const answer = await call(token)
  if (![40001, 40014, 42001].includes(answer.errcode)) return answer
  return call(await tokenserver('/token/reject', { appid, access_token: token })) // once more, with the current token
}
