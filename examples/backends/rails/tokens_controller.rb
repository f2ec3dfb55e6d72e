# app/controllers/tokens_controller.rb
# ANCHOR: pages
class TokensController < ApplicationController
  def create
    return head :forbidden unless current_user
    session[:login] ||= SecureRandom.uuid # names the login, and is not the cookie
    render json: Tidegate.issue_token(current_user.id, session[:login])
  end

  def destroy
    login = session[:login]
    reset_session # first: from here on there are no new tokens
    Tidegate.end_session(login) if login
    head :no_content
  end
end
# ANCHOR_END: pages
