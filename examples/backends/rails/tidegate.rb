# app/lib/tidegate.rb
# ANCHOR: calls
require "net/http"

module Tidegate
  ENDPOINT, ADMIN, KEY = %w[ENDPOINT ADMIN KEY].map { |name| ENV.fetch("TIDEGATE_#{name}") }
  API, STAGE = ENDPOINT.delete_suffix("/").split("/").last(2)

  def self.call(url, body = nil)
    uri = URI(url)
    request = Net::HTTP::Post.new(uri, "Authorization" => "Bearer #{KEY}", "Content-Type" => "application/json")
    request.body = body.to_json if body
    options = { use_ssl: uri.scheme == "https", open_timeout: 5, read_timeout: 10 }
    answer = Net::HTTP.start(uri.host, uri.port, **options) { |http| http.request(request) }
    answer.value # raises unless 2xx
    answer.body.present? ? JSON.parse(answer.body) : {}
  end

  # Counts of who took it: {"delivered" => 2, "gone" => 0, "slow" => 0}.
  def self.push(channel, message, **query)
    call("#{ENDPOINT}/@channels/#{ERB::Util.url_encode(channel)}?#{query.to_query}", message)
  end

  def self.push_user(user, message) = call("#{ENDPOINT}/@users/#{ERB::Util.url_encode(user)}", message)

  def self.issue_token(user, login)
    call("#{ADMIN}/api/tokens", { api: API, stage: STAGE, user: user.to_s, session: login })
  end

  def self.end_session(login) = call("#{ADMIN}/api/sessions/#{ERB::Util.url_encode(login)}/end")
end
# ANCHOR_END: calls
